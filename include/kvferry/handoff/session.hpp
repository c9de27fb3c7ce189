// Hand-offs over a Channel. Both ends:
//
//   Connection connection(*channel);
//   KVFERRY_TRY(connection.greet(wire::Role::kPrefill, deadline));
//
// The sender:
//
//   KVFERRY_ASSIGN(auto session, SendSession::start(connection, source, offer));
//   for (…) KVFERRY_TRY(session->publish(layer, begin, end));  // as the prefill goes
//   KVFERRY_TRY(session->send_first_token(token));
//   KVFERRY_ASSIGN(const HandoffReceipt receipt, session->finish());
//
// The receiver:
//
//   KVFERRY_ASSIGN(const wire::Frame frame, connection.receive(deadline));  // an OFFER
//   KVFERRY_ASSIGN(const HandoffReceipt receipt,
//                  receive_handoff(connection, frame, identity, handler));
#pragma once

#include "kvferry/handoff/connection.hpp"
#include "kvferry/handoff/receive_session.hpp"
#include "kvferry/handoff/report.hpp"
#include "kvferry/handoff/send_session.hpp"
