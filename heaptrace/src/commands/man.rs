//! `heaptrace man`: manual pages, made of what `--help` says.

use super::output::Output;
use crate::created::NewFile;
use anyhow::Context as _;
use clap::{Args, Command};
use clap_mangen::{
    Man,
    roff::{Roff, roman},
};
use std::{
    fs::Permissions,
    io::{self, Write},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
};

#[derive(Debug, Args)]
pub struct ManArgs {
    /// Folder to write the pages of all commands to. Without it, the page of heaptrace itself goes to standard output.
    #[arg(value_name = "DIR")]
    pub folder: Option<PathBuf>,
}

/// Runs `heaptrace man`, for this command line.
///
/// # Errors
/// If a page cannot be written.
pub fn run(args: ManArgs, command: Command) -> anyhow::Result<()> {
    let mut command = command.disable_help_subcommand(true);
    // Gives commands their whole names.
    command.build();
    let Some(folder) = args.folder else {
        return Output::stdout().print_all(|out| write(&command, out));
    };
    let visible = command.get_subcommands().filter(|command| !command.is_hide_set());
    for page in [&command].into_iter().chain(visible) {
        let path = folder.join(Man::new(page.clone()).get_filename());
        let failed = || format!("failed to write {}", path.display());
        let mut new = NewFile::beside(&path).with_context(failed)?;
        write(page, &mut new.file).with_context(failed)?;
        // For every user of a machine, as pages are.
        new.file.set_permissions(Permissions::from_mode(0o644)).with_context(failed)?;
        new.name().with_context(failed)?;
    }
    Ok(())
}

/// The page of a command, with its examples as they stand in `--help`.
fn write(command: &Command, out: &mut dyn Write) -> io::Result<()> {
    let page = Man::new(command.clone());
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    page.render_description_section(out)?;
    page.render_options_section(out)?;
    if command.has_subcommands() {
        page.render_subcommands_section(out)?;
    }
    let mut examples = Roff::new();
    examples.control("SH", ["EXAMPLES"]).control("nf", []);
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    for line in help.lines().filter(|line| *line != "Examples:") {
        examples.text([roman(line)]);
    }
    examples.control("fi", []);
    examples.to_writer(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory as _;
    use std::fs;
    use tempfile::TempDir;

    #[test]
    fn there_is_a_page_for_each_command_that_help_lists() {
        let folder = TempDir::new().expect("a folder");
        run(ManArgs { folder: Some(folder.path().into()) }, Cli::command()).expect("pages");
        let mut pages: Vec<String> = fs::read_dir(folder.path())
            .expect("the folder")
            .map(|page| page.expect("a page").file_name().into_string().expect("UTF-8"))
            .collect();
        pages.sort();
        let mut expected: Vec<String> = Cli::command()
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
            .map(|command| format!("heaptrace-{}.1", command.get_name()))
            .chain(["heaptrace.1".to_owned()])
            .collect();
        expected.sort();
        assert_eq!(pages, expected);
        let page = folder.path().join("heaptrace-record.1");
        assert_eq!(fs::metadata(page).expect("a page").permissions().mode() & 0o777, 0o644);
    }
}
