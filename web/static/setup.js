// The code stands behind the # of the address, which a browser never sends: take it from there into the form.
const code = decodeURIComponent(location.hash.slice(1));
if (code) {
  document.getElementById("code").value = code;
  history.replaceState(null, "", location.pathname);
  document.getElementById("password").focus();
}
