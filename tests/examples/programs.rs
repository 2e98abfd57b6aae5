//! Compiles every test program and prints what came of it, one path a line: for a machine without compilers.

use heaptrace_tests::programs;

fn main() -> anyhow::Result<()> {
    for path in programs::compile_all()? {
        println!("{}", path.display());
    }
    Ok(())
}
