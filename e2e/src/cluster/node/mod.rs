//! What a node is made of, beyond a control plane: its network, the configuration of its programs, its first images and
//! objects. The order in which it comes to life is `boot`'s.

pub(super) mod config;
pub(super) mod image;
pub(super) mod network;
pub(super) mod objects;

pub use image::BUSYBOX_IMAGE;
pub use objects::STORAGE_CLASS;
