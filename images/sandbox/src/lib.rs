//! What `sera-sandbox` speaks (`wire`), and how that is framed (`frame`); the program beside it executes what a model wrote, and nothing here does.

pub mod frame;
pub mod wire;
