//! `sandlot`: machines kept warm for agents.

fn main() {}
