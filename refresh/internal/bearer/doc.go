// Package bearer has what sending a bearer token over HTTP (RFC 6750) takes, and knows no type of this
// module: whether a 401 is about the token, a body that can be sent a second time, and to which host a
// request goes.
//
// The caller sends the first attempt with [TeeBody]'s body. If [RefusesToken] says that another token may
// help, the caller drains the response, gets a newer token, and sends [BodyAgain]'s body; if not, it calls
// [Tee.Release].
package bearer
