element.addEventListener('toggle', async (event) => {
  const details = event.target;
  if (!(details instanceof HTMLDetailsElement) || !details.open || details.dataset.asked) return;
  details.dataset.asked = 'yes';
  const why = details.querySelector('.sc-why');
  why.textContent = 'Working it out …';
  try {
    why.innerHTML = await server.explain({
      link: details.closest('.sc-results').dataset.link,
      item: details.closest('.sc-hit').dataset.item,
    });
  } catch {
    why.textContent = 'The page is no longer served; start it again.';
    delete details.dataset.asked;
  }
}, true);
watch('value', () => {
  const results = element.querySelector('.sc-results');
  history.replaceState(null, '', results ? results.dataset.link : location.pathname);
  if (results && results.getBoundingClientRect().top > innerHeight - 120) results.scrollIntoView({behavior: 'smooth'});
});
