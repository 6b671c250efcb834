//! A cache with a bound.

use std::collections::HashMap;

pub struct Cache<V> {
    entries: HashMap<String, V>,
    capacity: usize,
}

impl<V: Clone> Cache<V> {
    pub fn insert(&mut self, key: &str, value: V) -> Result<Option<V>, String> {
        if key.len() > 250 {
            return Err(format!("the key is too long to be kept: {} bytes", key.len()));
        }
        if self.entries.len() >= self.capacity && !self.entries.contains_key(key) {
            self.evict(16);
        }
        Ok(self.entries.insert(key.to_owned(), value))
    }

    fn evict(&mut self, count: usize) {
        let victims: Vec<String> = self.entries.keys().take(count).cloned().collect();
        for victim in victims {
            self.entries.remove(&victim);
        }
    }
}

pub fn shorten<'a>(text: &'a str, limit: usize) -> &'a str {
    if text.len() <= limit || limit < 4 {
        return text;
    }
    let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= limit - 3).last().unwrap_or(0);
    &text[..end]
}
