// A service that says how one JSON document becomes another, as a JSON Patch (RFC 6902):
// POST { "from": …, "to": … } answers [{ "op": "replace", "path": "/a", "value": 1 }, …].

addEventListener('fetch', (event) => event.respondWith(answer(event.request)));

const json = (status, value) =>
  new Response(JSON.stringify(value), { status, headers: { 'content-type': 'application/json' } });

async function answer(request) {
  if (request.method !== 'POST') return json(405, { error: 'POST { "from": …, "to": … }' });
  try {
    const { from, to } = JSON.parse(await request.text());
    if (from === undefined || to === undefined) return json(422, { error: '"from" and "to" are wanted' });
    return json(200, difference('', from, to));
  } catch (error) {
    return json(400, { error: String(error.message) });
  }
}

function difference(path, from, to) {
  if (from === to) return [];
  if (Array.isArray(from) && Array.isArray(to)) return ofLists(path, from, to);
  const object = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
  if (object(from) && object(to)) return ofObjects(path, from, to);
  return [{ op: 'replace', path, value: to }];
}

function ofObjects(path, from, to) {
  const at = (key) => `${path}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`;
  const removed = Object.keys(from).filter((key) => !Object.hasOwn(to, key));
  return [
    ...removed.map((key) => ({ op: 'remove', path: at(key) })),
    ...Object.keys(to).flatMap((key) =>
      Object.hasOwn(from, key)
        ? difference(at(key), from[key], to[key])
        : [{ op: 'add', path: at(key), value: to[key] }],
    ),
  ];
}

// Entries are compared by their place; what is too many is removed from the end.
function ofLists(path, from, to) {
  const common = Math.min(from.length, to.length);
  const changed = from.slice(0, common).flatMap((value, i) => difference(`${path}/${i}`, value, to[i]));
  const added = to.slice(common).map((value) => ({ op: 'add', path: `${path}/-`, value }));
  const removed = from.slice(common).map((_, i) => ({ op: 'remove', path: `${path}/${from.length - 1 - i}` }));
  return [...changed, ...added, ...removed];
}
