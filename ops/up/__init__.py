"""`pluggy-sync up`: servers, receiver, workers and ops as one supervised process tree."""
