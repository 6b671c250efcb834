//! `kubectl sera`: kubectl runs whatever is called `kubectl-sera` on the PATH. All of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    sera_operator::plugin::main()
}
