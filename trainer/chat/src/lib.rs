//! How a conversation becomes the text and the tokens that a student is trained on. No tensors.
