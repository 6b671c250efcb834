//! The program, as a driver uses it: real commands on a real kernel.

mod commands;
mod editor;
mod escapes;
mod files;
mod git;
mod session;
mod support;
