//! The reasons that a client can branch on.

/// Why a request failed, as a client can branch on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The server has nothing more to say.
    Unknown,
    /// Nobody knows who is asking.
    Unauthorized,
    /// Whoever asks may not do this.
    Forbidden,
    /// There is no such object or path.
    NotFound,
    /// An object of that name exists.
    AlreadyExists,
    /// The object is not what the caller believed it to be.
    Conflict,
    /// The object breaks the rules of its kind.
    Invalid,
    /// The state that was asked for is no longer kept.
    Expired,
    /// The watch cannot go on from here.
    Gone,
    /// The server asks to try again later.
    Timeout,
    /// The client's own deadline passed, or the server is not able in time.
    ServerTimeout,
    /// Too much at once.
    TooManyRequests,
    /// The request makes no sense.
    BadRequest,
    /// The path exists, not this way of using it.
    MethodNotAllowed,
    /// None of the answers that the client accepts can be given.
    NotAcceptable,
    /// The body is bigger than anyone needs.
    RequestEntityTooLarge,
    /// The body is in a format that is not understood.
    UnsupportedMediaType,
    /// The server failed.
    InternalError,
    /// The server is not there yet, or about to go.
    ServiceUnavailable,
}

impl Reason {
    /// Every reason there is.
    pub(super) const ALL: [Reason; 19] = [
        Reason::Unknown,
        Reason::Unauthorized,
        Reason::Forbidden,
        Reason::NotFound,
        Reason::AlreadyExists,
        Reason::Conflict,
        Reason::Invalid,
        Reason::Expired,
        Reason::Gone,
        Reason::Timeout,
        Reason::ServerTimeout,
        Reason::TooManyRequests,
        Reason::BadRequest,
        Reason::MethodNotAllowed,
        Reason::NotAcceptable,
        Reason::RequestEntityTooLarge,
        Reason::UnsupportedMediaType,
        Reason::InternalError,
        Reason::ServiceUnavailable,
    ];

    /// The reason as it stands in a Status; empty when unknown.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Unknown => "",
            Reason::Unauthorized => "Unauthorized",
            Reason::Forbidden => "Forbidden",
            Reason::NotFound => "NotFound",
            Reason::AlreadyExists => "AlreadyExists",
            Reason::Conflict => "Conflict",
            Reason::Invalid => "Invalid",
            Reason::Expired => "Expired",
            Reason::Gone => "Gone",
            Reason::Timeout => "Timeout",
            Reason::ServerTimeout => "ServerTimeout",
            Reason::TooManyRequests => "TooManyRequests",
            Reason::BadRequest => "BadRequest",
            Reason::MethodNotAllowed => "MethodNotAllowed",
            Reason::NotAcceptable => "NotAcceptable",
            Reason::RequestEntityTooLarge => "RequestEntityTooLarge",
            Reason::UnsupportedMediaType => "UnsupportedMediaType",
            Reason::InternalError => "InternalError",
            Reason::ServiceUnavailable => "ServiceUnavailable",
        }
    }
}
