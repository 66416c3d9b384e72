//! Updates, from the file to the commit, on whole card images and with the power failing at every
//! write.

mod card;
mod cuts;
mod file;
mod medium;
mod suite;
