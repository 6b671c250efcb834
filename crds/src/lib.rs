//! The API types of sera-operator (`sera.dev/v1alpha1`), and the contract between its programs. No client and no I/O lives here.

pub mod contract;
