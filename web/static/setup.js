// Move the code from the URL's fragment, which browsers never send, into the form.
const take = () => {
  const code = decodeURIComponent(location.hash.slice(1));
  if (!code) return;
  document.getElementById("code").value = code;
  history.replaceState(null, "", location.pathname);
  document.getElementById("password").focus();
};
addEventListener("hashchange", take); // the URL may be pasted into a tab that already shows this page
take();
