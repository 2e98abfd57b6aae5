//! `heaptrace completions`: what has a shell complete commands, options and their values.

use super::output::Output;
use clap::{Args, Command};
use clap_complete::{Shell, generate};

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Shell to write the script for.
    #[arg(value_enum)]
    pub shell: Shell,
}

const NAME: &str = "heaptrace";

/// The command line without what is no command for people: scripts would offer that, too.
fn visible(command: &Command) -> Command {
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set());
    Command::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true)
        .args(command.get_arguments().cloned())
        .subcommands(commands.cloned())
}

/// Runs `heaptrace completions`, for this command line.
///
/// # Errors
/// If standard output cannot be written to.
pub fn run(args: CompletionsArgs, command: &Command) -> anyhow::Result<()> {
    // It would panic where the output ends early.
    let mut script = Vec::new();
    generate(args.shell, &mut visible(command), NAME, &mut script);
    Output::stdout().print_all(|out| out.write_all(&script))
}
