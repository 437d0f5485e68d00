//! The Trainyard operator.
