//! PTX as text: tokens, the grammar, and the tree that it gives.
//!
//! Nothing here refers to what instructions do; [`crate::lower`] does.
pub(crate) mod ast;
pub(crate) mod lexer;
pub(crate) mod parse;
