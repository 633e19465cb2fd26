//! Every risk of every format raises its code.
