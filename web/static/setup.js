// The code stands behind the # of the address, which a browser never sends: take it from there into the form.
const take = () => {
  const code = decodeURIComponent(location.hash.slice(1));
  if (!code) return;
  document.getElementById("code").value = code;
  history.replaceState(null, "", location.pathname);
  document.getElementById("password").focus();
};
addEventListener("hashchange", take); // the address may be pasted where this page is open already
take();
