//! Who gets in, what they may do, and how the way in holds up.

mod certificates;
mod changes;
mod conversion;
mod echo;
mod grants;
mod history;
mod https;
mod impersonation;
mod kubectl;
mod policies;
mod rbac;
mod reviews;
mod serving;
mod slow_bodies;
mod streams;
mod tokens;
mod webhooks;
mod world;
