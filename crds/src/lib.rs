//! Part of Trainyard; see ARCHITECTURE.md.
