// Node's ws in the manner of the original d-zone server: one JSON.stringify and one send for each
// client. Arguments: the folder of ws, then users and servers as every peer gets them.
'use strict';

const { WebSocketServer, WebSocket } = require(process.argv[2]);
const users = Number(process.argv[3]);
const statuses = ['online', 'idle', 'dnd'];
const firstUid = 100000000000000000n;
let next = users;

const server = new WebSocketServer({ host: '127.0.0.1', port: 0 }, () => {
  process.stdout.write(`port ${server.address().port}\n`);
});
server.on('connection', (socket) => {
  socket.send('{"type":"server-list","data":{}}');
  socket.on('message', () => {
    socket.joined = true;
    socket.send('{"type":"server-join","data":{"users":{}}}');
  });
});

function happen() {
  const number = next++;
  const message = {
    type: 'presence',
    server: '232769614004748288',
    seq: number,
    data: {
      uid: String(firstUid + BigInt(number % users)),
      status: statuses[Math.floor(number / users) % 3],
    },
  };
  for (const client of server.clients) {
    if (client.joined && client.readyState === WebSocket.OPEN) {
      client.send(JSON.stringify(message));
    }
  }
}

require('readline')
  .createInterface({ input: process.stdin })
  .on('line', (line) => {
    const count = Number(line.split(' ')[1] || 1);
    for (let i = 0; i < count; i++) happen();
  })
  .on('close', () => process.exit(0));
