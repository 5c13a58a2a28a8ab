// Runs one case of a client: `node CLIENT.js CASE URL KEY`. What the client made of the guard's answer goes to
// standard output as JSON, for the test that started it to judge.

/** Run the case named on the command line. */
export async function run(cases) {
  const [name, url, key] = process.argv.slice(2);
  console.log(JSON.stringify(await cases[name](url, key)));
}

/** The error that a promise ends with; that it ends well is an error. */
export async function failure(promise) {
  let value;
  try {
    value = await promise;
  } catch (error) {
    return error;
  }
  throw new Error(`no error, but ${JSON.stringify(value)}`);
}

/** The items of an asynchronous iteration. */
export async function all(items) {
  const found = [];
  for await (const item of items) found.push(item);
  return found;
}
