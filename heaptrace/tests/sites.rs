//! Where the allocation functions of real builds would be probed: Debian's C libraries and allocators, which `./x setup`
//! fetches to `target/releases`. A golden file belongs to one build, by its build ID: what is not proven of another build
//! is not compared with it, only that it is sound.
//!
//! A release's library that has become another build fails until its sites were looked at and accepted, which
//! `INSTA_UPDATE=always cargo test -p heaptrace --test sites` does. sid changes by the week: it is told.

#![expect(clippy::disallowed_methods, reason = "tests read what a developer fetched")]

mod golden;

use golden::build::{Build, check};

macro_rules! builds {
    ($($suite:ident { $($name:ident $library:literal)* })*) => {
        $(mod $suite {
            $(#[test]
            fn $name() {
                super::check(&super::Build { suite: stringify!($suite), library: $library });
            })*
        })*
    };
}

builds! {
    bullseye {
        glibc "libc.so.6"
        musl "libc.so"
        jemalloc "libjemalloc.so.2"
        tcmalloc "libtcmalloc_minimal.so.4"
    }
    bookworm {
        glibc "libc.so.6"
        musl "libc.so"
        jemalloc "libjemalloc.so.2"
        tcmalloc "libtcmalloc_minimal.so.4"
        mimalloc "libmimalloc.so.2"
    }
    trixie {
        glibc "libc.so.6"
        musl "libc.so"
        jemalloc "libjemalloc.so.2"
        tcmalloc "libtcmalloc_minimal.so.4"
        mimalloc "libmimalloc.so.3"
    }
    sid {
        glibc "libc.so.6"
        musl "libc.so"
        jemalloc "libjemalloc.so.2"
        tcmalloc "libtcmalloc_minimal.so.4"
        mimalloc "libmimalloc.so.3"
    }
}
