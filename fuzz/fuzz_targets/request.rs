//! `cargo fuzz run request`, or a replay of the files named.
#![cfg_attr(fuzzing, no_main)]

espalier_fuzz::program!(espalier_fuzz::decision::request);
