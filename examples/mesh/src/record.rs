//! What a node tells the others about itself.
