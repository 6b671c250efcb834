//! The program, as a driver uses it: real commands on a real kernel.

mod commands;
mod support;
