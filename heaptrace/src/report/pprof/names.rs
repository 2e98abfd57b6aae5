//! The tables of strings and functions, each written when it is first referred to.

use super::message::Messages;
use super::proto::{Function, Profile};
use crate::printable::printable;
use std::borrow::Cow;
use std::collections::HashMap;
use std::io;

/// What was written, and its numbers.
#[derive(Default)]
pub struct Names<'a> {
    strings: HashMap<Cow<'a, str>, i64>,
    /// By name and file.
    functions: HashMap<(i64, i64), u64>,
}

impl<'a> Names<'a> {
    /// The number of our own text, or of one that is printable.
    pub fn string(&mut self, text: impl Into<Cow<'a, str>>, to: &mut Messages<'_>) -> io::Result<i64> {
        if self.strings.is_empty() {
            // By definition the first.
            self.add(Cow::Borrowed(""), to)?;
        }
        let text = text.into();
        match self.strings.get(&text) {
            Some(number) => Ok(*number),
            None => self.add(text, to),
        }
    }

    /// The same of a text that others chose.
    pub fn text(&mut self, text: &'a str, to: &mut Messages<'_>) -> io::Result<i64> {
        self.string(printable(text), to)
    }

    fn add(&mut self, text: Cow<'a, str>, to: &mut Messages<'_>) -> io::Result<i64> {
        let number = self.strings.len() as i64;
        to.put(&Profile { string_table: vec![text.clone().into_owned()], ..Profile::default() })?;
        self.strings.insert(text, number);
        Ok(number)
    }

    /// The number of a function of others.
    pub fn function(&mut self, name: &'a str, file: &'a str, to: &mut Messages<'_>) -> io::Result<u64> {
        let (name, filename) = (self.text(name, to)?, self.text(file, to)?);
        self.function_of(name, filename, to)
    }

    /// The number of what has a printable name and no file.
    pub fn function_named(&mut self, name: Cow<'a, str>, to: &mut Messages<'_>) -> io::Result<u64> {
        let name = self.string(name, to)?;
        self.function_of(name, 0, to)
    }

    fn function_of(&mut self, name: i64, filename: i64, to: &mut Messages<'_>) -> io::Result<u64> {
        if let Some(id) = self.functions.get(&(name, filename)) {
            return Ok(*id);
        }
        let id = self.functions.len() as u64 + 1;
        let function = Function { id, name, system_name: name, filename };
        to.put(&Profile { function: vec![function], ..Profile::default() })?;
        self.functions.insert((name, filename), id);
        Ok(id)
    }
}
