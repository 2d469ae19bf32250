//! Requests that prove who sent them, over and over again.

use http::{Request, StatusCode};
use touchmark_client::{Peers, Proved, Proving};
use touchmark_tests::{
    calls::{block_on, identifier, own_peers, source, this_process},
    dev::Dev,
};
use tower::{Service, ServiceBuilder, ServiceExt};

#[test]
fn r009_r096_t05_t06_t10_a_captured_request_is_of_no_use_to_anybody() {
    let dev = Dev::start(&[]);
    block_on(async {
        let source = source(&dev).await;
        let here = ["https://service.example.org"];
        let proved = Proved::new(&source, own_peers(), here);
        let mut service = ServiceBuilder::new()
            .layer(proved.clone())
            .service(tower::service_fn(|request: Request<()>| async move {
                let caller = request.extensions().get::<touchmark_client::Caller>().cloned();
                assert!(caller.is_some_and(|caller| caller.0.identifier().as_str() == this_process()));
                assert!(request.headers().is_empty(), "neither token nor proof goes on");
                Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
            }));
        let proof = source.prove("https://service.example.org/pay").await.unwrap();
        let request = |uri: &str, authorization: Option<&str>| {
            let mut request = Request::get(uri).header("workload-identity-token", &proof.wit);
            if let Some(authorization) = authorization {
                request = request.header("authorization", authorization);
            }
            request.body(()).unwrap()
        };
        let whole = format!("WPT {}", proof.wpt);
        let mut send = async |request: Request<()>| {
            service
                .ready()
                .await
                .unwrap()
                .call(request)
                .await
                .unwrap()
                .status()
        };
        // The token alone, and as a bearer token.
        assert_eq!(send(request("/pay", None)).await, StatusCode::UNAUTHORIZED);
        let bearer = format!("Bearer {}", proof.wit);
        assert_eq!(
            send(request("/pay", Some(&bearer))).await,
            StatusCode::UNAUTHORIZED
        );
        // For another path, and for another host behind the same service.
        assert_eq!(
            send(request("/payroll", Some(&whole))).await,
            StatusCode::UNAUTHORIZED
        );
        // Whole, with whatever query, once.
        assert_eq!(send(request("/pay?sum=1", Some(&whole))).await, StatusCode::OK);
        assert_eq!(
            send(request("/pay?sum=1", Some(&whole))).await,
            StatusCode::UNAUTHORIZED
        );
        // A proof for somebody else, and one from somebody who is not accepted.
        let other = source.prove("https://other.example.org/pay").await.unwrap();
        let mut request = request("/pay", None);
        request
            .headers_mut()
            .insert("authorization", format!("WPT {}", other.wpt).parse().unwrap());
        assert_eq!(send(request).await, StatusCode::UNAUTHORIZED);
        let strict = Proved::new(
            &source,
            Peers::only([identifier("other")]).unwrap().accepting_simulated(),
            here,
        );
        let mut strict =
            ServiceBuilder::new()
                .layer(strict)
                .service(tower::service_fn(|_: Request<()>| async {
                    Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
                }));
        let proof = source.prove("https://service.example.org/pay").await.unwrap();
        let request = Request::get("/pay")
            .header("workload-identity-token", &proof.wit)
            .header("authorization", format!("WPT {}", proof.wpt))
            .body(())
            .unwrap();
        let answer = strict.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    });
}

#[test]
fn r043_proofs_of_the_draft_before_name_the_bearer_token_beside_them() {
    let dev = Dev::start(&[]);
    block_on(async {
        let source = source(&dev).await;
        let profile = touchmark_client::Profile::Wpt01;
        let proved = Proved::new(&source, own_peers(), ["https://service.example.org"]).profile(profile);
        let server = ServiceBuilder::new().layer(proved).service(tower::service_fn(
            |request: Request<()>| async move {
                let bearer = request.headers().contains_key("authorization");
                Ok::<_, std::convert::Infallible>(http::Response::new(bearer.to_string()))
            },
        ));
        let mut client = ServiceBuilder::new()
            .layer(Proving::new(&source).profile(profile))
            .service(server.clone());
        for bearer in [None, Some("Bearer abc")] {
            let mut request = Request::get("https://service.example.org/a").body(()).unwrap();
            if let Some(bearer) = bearer {
                request
                    .headers_mut()
                    .insert("authorization", bearer.parse().unwrap());
            }
            let answer = client.ready().await.unwrap().call(request).await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK, "{bearer:?}");
            assert_eq!(answer.body(), &bearer.is_some().to_string());
        }
        // With the present draft there is no room for two.
        let mut present = ServiceBuilder::new().layer(Proving::new(&source)).service(server);
        let request = Request::get("https://service.example.org/a")
            .header("authorization", "Bearer abc")
            .body(())
            .unwrap();
        assert!(present.ready().await.unwrap().call(request).await.is_err());
    });
}

#[test]
fn callers_who_are_not_accepted_take_no_place_in_the_memory_of_proofs() {
    let dev = Dev::start(&[]);
    block_on(async {
        let source = source(&dev).await;
        let others = Peers::only([identifier("other")]).unwrap().accepting_simulated();
        let here = ["https://service.example.org"];
        // One place, which whoever is refused would fill.
        let refusing = Proved::new(&source, others, here).remembering(1);
        let service = |proved: &Proved| {
            ServiceBuilder::new()
                .layer(Proving::new(&source))
                .layer(proved.clone())
                .service(tower::service_fn(|_: Request<()>| async {
                    Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
                }))
        };
        for _ in 0..3 {
            let request = Request::get("https://service.example.org/a").body(()).unwrap();
            let answer = service(&refusing)
                .ready()
                .await
                .unwrap()
                .call(request)
                .await
                .unwrap();
            assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        }
        // And whose proofs are many is told so, until they have ended.
        let small = Proved::new(&source, own_peers(), here).remembering(1);
        for status in [StatusCode::OK, StatusCode::UNAUTHORIZED] {
            let request = Request::get("https://service.example.org/a").body(()).unwrap();
            let answer = service(&small)
                .ready()
                .await
                .unwrap()
                .call(request)
                .await
                .unwrap();
            assert_eq!(answer.status(), status);
        }
    });
}
