//! What `sera-sandbox` speaks (`wire`), how that is framed (`frame`), and which paths it speaks of (`paths`); the program beside it executes what a
//! model wrote, and nothing here does.

pub mod frame;
pub mod paths;
pub mod wire;
