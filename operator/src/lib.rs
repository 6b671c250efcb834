//! The controller of SERA as a library: the binary puts it together, tests take it apart. The kinds it serves are in `sera-crds`.

pub mod apply;
pub mod build;
pub mod cache;
pub mod collector;
pub mod config;
pub mod controller;
pub mod defaults;
pub mod facts;
pub mod names;
pub mod observe;
pub mod plan;
pub mod plugin;
pub mod report;
pub mod runtime;
pub mod selftest;
pub mod subject;
