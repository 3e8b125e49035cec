//! stub: helper host
