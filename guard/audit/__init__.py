"""The durable record of every choice: what was asked, what the thinking cited, what was released."""
