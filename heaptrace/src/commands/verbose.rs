//! The option for more words.

use super::headings::OUTPUT;
use clap::{Args, ValueEnum};

#[derive(Clone, Debug, Default, Args)]
pub struct VerboseArgs {
    /// Say more: of each process and file in the report's footer; or of what is named.
    #[arg(short, long, value_enum, value_name = "WHAT", num_args = 0..=1, require_equals = true,
        default_missing_value = "footer", help_heading = OUTPUT)]
    verbose: Vec<Verbose>,
}

/// What more is said of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Verbose {
    /// A line for each process and file, in the report's footer.
    Footer,
    /// Log lines of the BPF programs, on standard error: calls whose start or end was missed, full tables, unreadable addresses.
    Bpf,
}

impl VerboseArgs {
    /// Whether the footer tells of each process and file.
    pub fn footer(&self) -> bool {
        self.verbose.contains(&Verbose::Footer)
    }

    /// Whether the BPF programs log.
    pub fn bpf(&self) -> bool {
        self.verbose.contains(&Verbose::Bpf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alone_it_is_the_footer() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            verbose: VerboseArgs,
            file: Option<String>,
        }
        let line = |words: &[&str]| {
            let line = <Line as clap::Parser>::try_parse_from([&["x"], words].concat()).expect("a good line");
            (line.verbose.footer(), line.verbose.bpf(), line.file.is_some())
        };
        assert_eq!(line(&[]), (false, false, false));
        assert_eq!(line(&["-v", "bpf"]), (true, false, true));
        assert_eq!(line(&["--verbose=bpf", "file"]), (false, true, true));
        assert_eq!(line(&["--verbose=bpf", "--verbose"]), (true, true, false));
    }
}
