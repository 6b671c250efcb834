//! Names as numbers: a repository has far fewer names than places where they stand. The numbers differ from run to run, so that nothing may be sorted
//! by them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Symbol(u32);

/// The names of a repository; threads share it.
#[derive(Default)]
pub(super) struct Symbols(Mutex<Known>);

#[derive(Default)]
struct Known {
    numbers: HashMap<Arc<str>, u32>,
    names: Vec<Arc<str>>,
}

impl Symbols {
    /// The number of a name.
    pub(super) fn of(&self, name: &str) -> Symbol {
        let mut known = self.known();
        if let Some(number) = known.numbers.get(name) {
            return Symbol(*number);
        }
        let number = u32::try_from(known.names.len()).unwrap_or(u32::MAX);
        let name: Arc<str> = name.into();
        known.names.push(name.clone());
        known.numbers.insert(name, number);
        Symbol(number)
    }

    /// The name with that number.
    pub(super) fn text(&self, Symbol(number): Symbol) -> Arc<str> {
        self.known().names.get(number as usize).cloned().unwrap_or_default()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_again_by_its_number() {
        let symbols = Symbols::default();
        let (open, close) = (symbols.of("open"), symbols.of("close"));
        assert_eq!(symbols.of("open"), open);
        assert_ne!(open, close);
        assert_eq!((&*symbols.text(open), &*symbols.text(close)), ("open", "close"));
    }
}
