//! The policy below async-openai's client.
//!
//! INVARIANT: a factory is asked for its request once for each attempt, and what it makes is what is judged and what is
//! sent. Built a second time, it could be another one.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use ::async_openai::error::OpenAIError;
use ::async_openai::middleware::HttpRequestFactory;
use reqwest::{Request, Response};
use tower_service::Service;

use crate::BoxError;
use crate::respond::Respond;
use crate::service::SekuireService;

/// Governs every call of an async-openai client, given to its `with_http_service`.
///
/// Retries belong **above** it, so that each attempt is judged and counted; `with_http_service` leaves out those that
/// async-openai makes by default, and `OpenAIRetryLayer` brings them back. They never repeat what the policy refused,
/// limits included, whatever the layer's [`Respond`] says: a refused call fails with an [`OpenAIError::Boxed`] in which
/// [`PolicyViolation::find`] finds the reason.
///
/// A stream that is cut off ends with an error event, because async-openai keeps only the words of a body's error, not
/// their source. A chat stream yields an [`OpenAIError::JSONDeserialize`] then, with the event as its content; a stream of
/// Responses yields an event `error`. [`SekuireLayer::on_decision`] is told the violation itself.
///
/// What doesn't go through `with_http_service` is **not seen**: realtime sockets, and the downloads of images by URL.
///
/// ```
/// use async_openai::{Client, config::OpenAIConfig, middleware::retry::OpenAIRetryLayer};
/// use async_openai::types::chat::CreateChatCompletionRequest;
/// use tower::ServiceBuilder;
/// use tower_sekuire::{Policy, PolicyViolation, SekuireLayer, SekuireOpenAi};
///
/// # tokio_test::block_on(async {
/// let policy = Policy::from_yaml("agent: { models: { blocked_models: [gpt-3.5-turbo] } }")?;
/// let governed = SekuireLayer::new(policy).reqwest_client(reqwest::Client::builder())?;
/// let service = ServiceBuilder::new()
///     .layer(OpenAIRetryLayer::default())
///     .service(SekuireOpenAi::new(governed));
/// let client = Client::with_config(OpenAIConfig::new().with_api_key("sk-")).with_http_service(service);
///
/// let request = CreateChatCompletionRequest { model: "gpt-3.5-turbo".into(), ..Default::default() };
/// let refused = client.chat().create(request).await.unwrap_err();
/// let violation = PolicyViolation::find(&refused).unwrap();
/// assert_eq!(violation.to_string(), "[model_blocked] Model gpt-3.5-turbo is not allowed");
/// # Ok::<(), tower_sekuire::BoxError>(())
/// # }).unwrap();
/// ```
///
/// [`PolicyViolation::find`]: crate::PolicyViolation::find
/// [`SekuireLayer::on_decision`]: crate::SekuireLayer::on_decision
#[derive(Clone, Debug)]
pub struct SekuireOpenAi<S> {
    governed: SekuireService<S>,
}

impl<S> SekuireOpenAi<S> {
    /// Takes a governed client of reqwest's, such as [`SekuireLayer::reqwest_client`] makes, for one of async-openai's.
    ///
    /// [`SekuireLayer::reqwest_client`]: crate::SekuireLayer::reqwest_client
    #[must_use]
    pub fn new(governed: SekuireService<S>) -> Self {
        Self {
            governed: governed.respond(Respond::OpenAiInStream),
        }
    }
}

/// # Errors
///
/// [`OpenAIError::Boxed`] with the violation, as it is, when the policy refuses the call; the client's own error and the
/// factory's otherwise.
impl<S> Service<HttpRequestFactory> for SekuireOpenAi<S>
where
    S: Service<Request, Response = Response> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = OpenAIError;
    type Future = Pin<Box<dyn Future<Output = Result<Response, OpenAIError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), OpenAIError>> {
        self.governed.poll_ready(cx).map_err(native)
    }

    fn call(&mut self, factory: HttpRequestFactory) -> Self::Future {
        let mut governed = self.governed.take_ready(std::convert::identity);
        Box::pin(async move {
            let request = factory.build().await?;
            governed.call(request).await.map_err(native)
        })
    }
}

/// The client's errors in the variants in which a retry layer looks for them.
fn native(error: BoxError) -> OpenAIError {
    match error.downcast::<reqwest::Error>() {
        Ok(error) => OpenAIError::Reqwest(*error),
        Err(error) => match error.downcast::<OpenAIError>() {
            Ok(error) => *error,
            Err(error) => OpenAIError::Boxed(error),
        },
    }
}
