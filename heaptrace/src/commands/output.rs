//! Where a command prints to, once or again and again while it runs: standard output or a file. That the file can be
//! written is known before the work begins.

use crate::created::{NewFile, Place, is_same_file, place};
use crate::error::Usage;
use crate::units::Numbers;
use anyhow::{Context as _, bail};
use clap::builder::{MapValueParser, PathBufValueParser, TypedValueParser as _, ValueParserFactory};
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Where to print to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// `-`.
    Stdout,
    File(PathBuf),
}

impl Destination {
    pub fn is_terminal(&self) -> bool {
        *self == Self::Stdout && io::stdout().is_terminal()
    }
}

impl Destination {
    /// The format that a file's name stands for. `files` are the names that stand for one, as people are told them.
    ///
    /// # Errors
    /// If the name has an ending that stands for none: what is meant by it would not come.
    pub fn format<F>(
        &self,
        of_file: impl Fn(&Path) -> Option<F>,
        files: &[&str],
    ) -> Result<Option<F>, Usage> {
        let Self::File(path) = self else { return Ok(None) };
        let format = of_file(path);
        if format.is_none() && path.extension().is_some() {
            let known = files.join(", ");
            return Err(Usage(format!(
                "the name {} stands for no format: known are {known}, and without an ending it is text; --format takes any \
                 name",
                path.display()
            )));
        }
        Ok(format)
    }
}

impl From<PathBuf> for Destination {
    fn from(name: PathBuf) -> Self {
        if name.as_os_str() == "-" { Self::Stdout } else { Self::File(name) }
    }
}

impl ValueParserFactory for Destination {
    type Parser = MapValueParser<PathBufValueParser, fn(PathBuf) -> Self>;

    fn value_parser() -> Self::Parser {
        // Takes no empty one.
        PathBufValueParser::new().map(Self::from)
    }
}

/// See the module. What a file's name stood for before stays until the first print, and for good if there is none.
pub(super) struct Output {
    out: BufWriter<Box<dyn Write>>,
    name: String,
    /// The file that the first print gives its name to.
    new: Option<NewFile>,
    numbers: Numbers,
}

impl Output {
    /// # Errors
    /// If it could not be written to, or would take another's file: see [`crate::created`].
    pub fn open(destination: &Destination) -> anyhow::Result<Self> {
        let Destination::File(path) = destination else { return Ok(Self::stdout()) };
        let failed = || format!("failed to open {} for writing", path.display());
        let (out, new): (Box<dyn Write>, _) = match place(path).with_context(failed)? {
            Place::Stream(file) => (Box::new(file), None),
            Place::File => {
                let new = NewFile::beside(path).with_context(failed)?;
                (Box::new(new.file.try_clone().with_context(failed)?), Some(new))
            }
        };
        Ok(Self { out: buffered(out), name: path.display().to_string(), new, numbers: Numbers::default() })
    }

    /// For what is made of the file `input`.
    ///
    /// # Errors
    /// As [`Self::open`], and if it is `input` itself.
    pub fn open_beside(destination: &Destination, input: &Path) -> anyhow::Result<Self> {
        if let Destination::File(path) = destination
            && is_same_file(path, input)
        {
            bail!("failed to write the report: {} is the recording itself", path.display());
        }
        Self::open(destination)
    }

    /// To what is open already, and has this name for people.
    pub fn opened(out: impl Write + 'static, name: &str) -> Self {
        Self { out: buffered(Box::new(out)), name: name.to_owned(), new: None, numbers: Numbers::default() }
    }

    pub fn stdout() -> Self {
        Self::opened(io::stdout(), "standard output")
    }

    /// The same, with numbers written so.
    pub fn with(self, numbers: Numbers) -> Self {
        Self { numbers, ..self }
    }

    /// Has `render` write one print, whole, which can be read at once. Breaks if nobody reads any more, which is no
    /// failure.
    ///
    /// # Errors
    /// What writing fails with, with the name of the output.
    pub fn print(
        &mut self,
        render: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> anyhow::Result<ControlFlow<()>> {
        if let Some(mut new) = self.new.take() {
            new.name().with_context(|| format!("failed to write to {}", self.name))?;
        }
        self.write(render)
    }

    /// The same with the only print: a file gets its name when all of it is written.
    ///
    /// # Errors
    /// As [`Self::print`]; what was there before is there still.
    pub fn print_all(mut self, render: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<()> {
        // Whether anybody still reads makes no difference any more.
        let _ = self.write(render)?;
        match self.new.take() {
            Some(mut new) => new.name().with_context(|| format!("failed to write to {}", self.name)),
            None => Ok(()),
        }
    }

    fn write(
        &mut self,
        render: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> anyhow::Result<ControlFlow<()>> {
        match self.numbers.within(|| render(&mut self.out)).and_then(|()| self.out.flush()) {
            Ok(()) => Ok(ControlFlow::Continue(())),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
            Err(error) => Err(error).with_context(|| format!("failed to write to {}", self.name)),
        }
    }
}

fn buffered(out: Box<dyn Write>) -> BufWriter<Box<dyn Write>> {
    BufWriter::with_capacity(1 << 16, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_that_is_unknown_is_answered_with_those_that_are() {
        let format = |name: &str| {
            let of_file = |path: &Path| path.extension().filter(|ending| *ending == "svg").map(|_| "svg");
            Destination::from(PathBuf::from(name)).format(of_file, &["*.svg", "*.txt"])
        };
        assert_eq!(format("x.svg").expect("known"), Some("svg"));
        for plain in ["-", "report", "/dev/stdout", "/x.y/report", ".report"] {
            assert_eq!(format(plain).expect("no ending"), None, "{plain}");
        }
        let said = format("heap.sgv").expect_err("unknown").to_string();
        assert!(
            said.starts_with("the name heap.sgv stands for no format: known are *.svg, *.txt, and"),
            "{said}"
        );
    }

    #[test]
    fn a_dash_is_standard_output_and_no_file() {
        assert_eq!(Destination::from(PathBuf::from("-")), Destination::Stdout);
        assert_eq!(Destination::from(PathBuf::from("./-")), Destination::File("./-".into()));
    }
}
