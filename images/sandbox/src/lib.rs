//! What `sera-sandbox` speaks (`wire`); the program beside it executes what a model wrote, and nothing here does.

pub mod wire;
