//! Problems, their notation, and what is planned for them: without a device.

mod notation;
mod notation_oracle;
mod plan;
mod problem;
mod structure;
mod tensor_plan;
