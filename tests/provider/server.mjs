// The certified provider with one client, for tests: node server.mjs CLIENT SECRET ADDRESS-OF-THE-SERVICE.
// It prints its issuer. Whoever signs in is in the groups of their name, separated by dots: `ada.staff.bosses`.
import { createServer } from "node:http";
import Provider from "oidc-provider";

const [clientId, clientSecret, service] = process.argv.slice(2);
const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{
      client_id: clientId,
      client_secret: clientSecret,
      token_endpoint_auth_method: "client_secret_basic",
      redirect_uris: [`${service}/console/sign-in/callback`],
      post_logout_redirect_uris: [`${service}/console/sign-in`],
      backchannel_logout_uri: `${service}/console/back-channel-logout`,
      backchannel_logout_session_required: true,
    }],
    claims: { openid: ["sub"], profile: ["name"], email: ["email"], groups: ["groups"] },
    cookies: { keys: ["a key of the tests alone"] },
    features: { backchannelLogout: { enabled: true }, rpInitiatedLogout: { enabled: true }, devInteractions: { enabled: true } },
    fetch: (url, { dispatcher, ...options }) => fetch(url, options), // it would not call addresses of this machine
    pkce: { required: () => true },
    findAccount: (_, id) => {
      const [name, ...groups] = id.split(".");
      return { accountId: id, claims: () => ({ sub: id, name, email: `${name}@acme.example`, groups }) };
    },
  });
  server.on("request", provider.callback());
  console.log(issuer);
});
