//! PTX text: tokens, grammar and syntax tree.
//!
//! The semantics of instructions is not defined here but in [`crate::lower`].
pub(crate) mod ast;
pub(crate) mod lexer;
pub(crate) mod parse;
