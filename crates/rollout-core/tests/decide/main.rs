//! Decisions proven on a small cluster in memory: whole stories, every request, every fault, a crash at every write.
//! What must hold at every moment is checked by the world itself; the tests say how a story ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
// Fixtures read like the manifests they stand for.
#![allow(clippy::needless_pass_by_value, clippy::too_many_lines, clippy::struct_field_names)]
#![allow(clippy::collapsible_if, clippy::type_complexity, clippy::nonminimal_bool, clippy::struct_excessive_bools)]

mod chaos;
mod checks;
mod clocks;
mod crash;
mod faults;
mod fixtures;
mod gateway;
mod grounds;
mod judge;
mod kstatus;
mod latches;
mod probation;
mod requests;
mod rest;
mod route;
mod rows;
mod schema;
mod stories;
mod words;
mod world;
