
pub mod session;
