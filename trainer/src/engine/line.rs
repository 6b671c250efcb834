//! A line of the dataset as tokens.

/// A conversation to train on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its `instance_id`.
    pub id: String,
    /// Its tokens.
    pub ids: Vec<u32>,
    /// Whether each of them carries loss, when it is predicted from those before it.
    pub loss: Vec<bool>,
}
