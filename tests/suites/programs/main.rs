//! Real programs: they work while traced and after, nothing is lost, and the figures fit what they say of
//! themselves.

mod git;
mod nginx;
mod node;
mod postgres;
mod python;
mod redis;
mod sanity;
mod sqlite;
mod top;
mod watch;

use heaptrace_tests::runner::{self, end_to_end};
use std::process::ExitCode;

fn main() -> ExitCode {
    runner::run(vec![
        end_to_end("python: large blocks are found to the byte", python::blocks_from_the_start),
        end_to_end("python: large blocks are found after attaching", python::blocks_after_attaching),
        end_to_end("sqlite: peak fits its own statistics", sqlite::filling_a_database),
        end_to_end("git: says what it says untraced", git::log_of_changes),
        end_to_end("node: its buffers are found", node::buffers),
        end_to_end("nginx: attached under load, serves on", nginx::attached_under_load),
        end_to_end("nginx: started under the tracer", nginx::from_the_start),
        end_to_end("postgres: attached under pgbench, serves on", postgres::attached_under_load),
        end_to_end("postgres: started under the tracer", postgres::from_the_start),
        end_to_end("top: redis, postgres and python3 on one screen", top::three_programs),
        end_to_end("redis: growth fits its own statistics", redis::filling_the_keyspace),
        end_to_end("watch: python's blocks are seen as they are mapped", watch::python_blocks),
        end_to_end("watch: the totals of redis and postgres are their VmSize", watch::servers),
    ])
}
