//! A client of redis: commands, and what the server says of its memory.

use anyhow::{Context as _, Result};
use std::io::{BufRead as _, BufReader, Read, Write};

/// A connection.
pub struct Client<S>(BufReader<S>);

impl<S: Read + Write> Client<S> {
    /// Over a socket that is connected.
    pub fn over(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    /// Sends one command; a line of simple reply, or the bulk text behind it.
    ///
    /// # Errors
    /// When the server is gone, or answers neither.
    pub fn call(&mut self, words: &[&str]) -> Result<String> {
        let mut command = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| command.push_str(&format!("${}\r\n{word}\r\n", word.len())));
        self.0.get_mut().write_all(command.as_bytes())?;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let line = line.trim_end();
        let Some(length) = line.strip_prefix('$') else { return Ok(line.to_owned()) };
        let mut bulk = vec![0; length.parse::<usize>()? + 2];
        self.0.read_exact(&mut bulk)?;
        Ok(String::from_utf8_lossy(&bulk).trim_end().to_owned())
    }

    /// A figure of `INFO memory`.
    ///
    /// # Errors
    /// As [`Client::call`], and when there is no such figure.
    pub fn memory(&mut self, figure: &str) -> Result<u64> {
        let info = self.call(&["INFO", "memory"])?;
        let line = info.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'));
        line.context("redis says nothing of its memory")?.trim().parse().context("not a number")
    }
}
