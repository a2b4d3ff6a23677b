//! `cargo fuzz run route`, or a replay of the files named.
#![cfg_attr(fuzzing, no_main)]

espalier_fuzz::program!(espalier_fuzz::route::route);
