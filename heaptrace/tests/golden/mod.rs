pub mod build;
mod sound;
mod text;
