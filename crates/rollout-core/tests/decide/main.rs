//! Decisions proven on a small cluster in memory: whole stories, every request, every fault, a crash at every write.
//! What must hold at every moment is checked by the world itself; the tests say how a story ends.

mod chaos;
mod crash;
mod faults;
mod fixtures;
mod judge;
mod kstatus;
mod probation;
mod requests;
mod route;
mod rows;
mod stories;
mod world;
