//! What should happen next.

#![forbid(unsafe_code)]

pub mod founding;
pub mod node;
pub mod timing;

pub use node::plan_node;
